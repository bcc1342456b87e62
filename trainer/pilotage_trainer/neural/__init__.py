"""The transformers backend: everything that imports torch. Commands import it when they are asked for it, not before.

In the order data meets it: tokenizer, sequences, packing, shards; model, optimizer, sft; critic; inference, export.
"""
