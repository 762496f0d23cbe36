from .dump import dom0_dump
print(dom0_dump())
