"""From raw Chinese text to training samples: readers, tokenizer, indexed dataset, sample order. Never imports torch."""
