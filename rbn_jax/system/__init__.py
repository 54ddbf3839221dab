"""What long work needs of the operating system: files, locks, interrupts, progress."""
