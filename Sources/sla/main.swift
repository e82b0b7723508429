import SLAEngine
print("x")
