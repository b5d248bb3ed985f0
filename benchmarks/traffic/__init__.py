"""Made traffic: deterministic captures of many concurrent connections."""
