"""A judge for `sla eval`, `sla pairs` and `sla rollouts`: a reward model of Hugging Face's scores the answers.

    sla pairs --prompts prompts.jsonl --judge 'python3 reward_model.py [MODEL]' --out pairs.jsonl

MODEL is a repository or a folder with a model for sequence classification of one label and a chat template. Reads lines
{"prompt", "completion"}, whose prompt is text or chat messages, and answers each with {"score"}.
"""
import json
import sys

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer


def conversation(prompt, completion):
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return messages + [{"role": "assistant", "content": completion}]


def main(name="Skywork/Skywork-Reward-V2-Qwen3-0.6B"):
    tokenizer = AutoTokenizer.from_pretrained(name)
    model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=1, dtype=torch.bfloat16).eval()
    for line in sys.stdin:
        answer = json.loads(line)
        if isinstance(answer["prompt"], list) and not all(isinstance(message, dict) for message in answer["prompt"]):
            sys.exit("reward_model.py: prompts of token ids cannot be judged; give text or messages")
        text = tokenizer.apply_chat_template(conversation(answer["prompt"], answer["completion"]), tokenize=False)
        tokens = tokenizer(text, return_tensors="pt", add_special_tokens=False)
        with torch.no_grad():
            score = model(**tokens).logits[0, 0].item()
        print(json.dumps({"score": score}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
