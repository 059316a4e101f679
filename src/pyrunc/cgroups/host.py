class Layout: pass
def detect():
    l=Layout(); l.version=1; l.unified=""; l.mounts={c:f"/sys/fs/cgroup/{c}" for c in ("cpu","cpuset","memory","pids","devices","freezer")}
    return l
