"""What ``freeze/freeze.c`` is made into."""

def freeze(channel: int) -> tuple[list[bytes], list[bytes], int, int, bytes]:
    """Tell through ``channel`` what to put back, and wait to be killed.

    Returns in the snapshot: arguments, environment, ignored signals (bit N - 1 for N), and when
    the launcher began, in ns, if that is wanted, else 0; and the command's name if its footprint
    is to be kept, else nothing.

    :raises RuntimeError: when this process cannot be put back.
    """
