"""A step as one graph: traced, watched for what it would freeze, compiled and replayed."""
