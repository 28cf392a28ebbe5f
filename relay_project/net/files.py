"""How many files a process may have open, of which each connection is one."""

import resource


def allow_files(count: int) -> int:
    """Raise the limit of open files as far as this process may, never lower it; returns what it is then.

    Children and the programs that take this one's place inherit it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return count if soft == resource.RLIM_INFINITY else soft
