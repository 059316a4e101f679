"""The system calls that ``posix`` lacks, thin and typed: no policy here."""
