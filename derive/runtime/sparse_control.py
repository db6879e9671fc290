def finite_time(*a): raise NotImplementedError
def solve(*a): raise NotImplementedError
