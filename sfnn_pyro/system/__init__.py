"""What this package asks of the operating system: files, signals, memory, the processor."""
