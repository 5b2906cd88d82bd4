"""Trains the demo text-to-image model from nothing, on pictures this package draws itself.

vocabulary -> facts -> drawing, captions -> tokenizer, vae, unet -> export, evaluate (judge)
export -> lora (neon), control (edges), both by extension -> extension_scores, extension_sheets
"""
