"""Built-in enrichers: what they know rides in the messages of a protocol that is dissected by others."""
