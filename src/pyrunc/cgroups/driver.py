class Driver:
    def paths(self): return {}
    def to_state(self): return {}
    def create(self,r): pass
    def apply_early(self,r): pass
    def apply_late(self,r): pass
    def attach(self,pid): pass
    def destroy(self): pass
    def processes(self): return []
    def frozen(self): return False
def open_driver(*a,**k): return Driver()
def from_state(s): return Driver()
