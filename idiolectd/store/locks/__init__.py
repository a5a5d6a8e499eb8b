"""Claims on sessions and the write lock: kernel locks between processes, queues within one process."""
