"""From sessions to packed rows of tokens: tokenizer, sequences, spool, selection, shards, folder, card."""
