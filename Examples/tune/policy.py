"""Makes a small Hugging Face model that knows the task half: a tokenizer and a Llama, trained here and saved with save_pretrained.

    python policy.py policy

It learns from answers of which a third are wrong, so its greedy answers are better than those that it draws, and neither is good.
"""
import random
import sys
import time

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from task import answer, prompt, words

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=270, special_tokens=["<|im_end|>", "<|im_start|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(["user\n", "assistant\n"] * 10, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>")
    made.chat_template = TEMPLATE
    return made


def make_model(tokenizer):
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=128, tie_word_embeddings=True, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


def batch(tokenizer, rows, generator):
    """Ids, and the same as labels where the answer is."""
    ids, starts = [], []
    for word in rows:
        said = answer(word)
        if generator.random() < 1 / 3:
            letters = list(said)
            generator.shuffle(letters)
            said = "".join(letters)
        before = tokenizer.apply_chat_template(prompt(word), add_generation_prompt=True, tokenize=False)
        head = tokenizer(before, add_special_tokens=False)["input_ids"]
        ids.append(head + tokenizer(said, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id])
        starts.append(len(head))
    longest = max(map(len, ids))
    padded = torch.tensor([row + [tokenizer.eos_token_id] * (longest - len(row)) for row in ids])
    place = torch.arange(longest)
    inside = torch.stack([(place >= start) & (place < len(row)) for row, start in zip(ids, starts)])
    return padded, padded.masked_fill(~inside, -100)


def main(folder, steps=250, size=64):
    torch.manual_seed(1)
    generator = random.Random(1)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    rows = list(words("train", steps * size, seed=0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.05)
    started, total = time.time(), 0.0
    for step in range(steps):
        ids, labels = batch(tokenizer, rows[step * size : (step + 1) * size], generator)
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += loss.item()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1} of {steps}  {time.time() - started:.0f} s  loss {total / 100:.3f}", flush=True)
            total = 0.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main(sys.argv[1])
