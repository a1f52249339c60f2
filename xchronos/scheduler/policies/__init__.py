"""What one key of a unit says, as one function each: `Concurrency=`, `MisfirePolicy=`, and the keys about retries."""
