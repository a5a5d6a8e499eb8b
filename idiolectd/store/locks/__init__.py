"""The claim on one session, and the write lock: kernel locks between processes, queues within one."""
