"""Tunes the model on the pairs of `sla pairs` with TRL's DPOTrainer, into a PEFT adapter that `sla --lora` reads:

    python dpo.py policy pairs.jsonl adapter
"""
import sys

from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

policy, pairs, adapter = sys.argv[1:]
trainer = DPOTrainer(
    model=AutoModelForCausalLM.from_pretrained(policy),
    args=DPOConfig(
        output_dir=adapter, num_train_epochs=1, per_device_train_batch_size=32, learning_rate=2e-4, beta=0.3, lr_scheduler_type="cosine",
        warmup_steps=5, logging_steps=10, save_strategy="no", report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False, seed=1,
    ),
    train_dataset=load_dataset("json", data_files=pairs, split="train"),
    processing_class=AutoTokenizer.from_pretrained(policy),
    peft_config=LoraConfig(
        r=8, lora_alpha=16, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], task_type="CAUSAL_LM"
    ),
)
trainer.train()
trainer.save_model(adapter)
