"""A Xen PV kernel's map from pseudo-physical to machine frames, and the list published of it.

``layouts`` reads the p2m from wherever a kernel version keeps it, ``without_namelist``
from where the kernel tells Xen it is, ``framelist`` reads and builds the list that crash
tools use, ``coverage`` compares the two, ``diagnosis`` does all of it for a dump.
``ranges``, ``verify`` and ``failure`` look at the result; ``listpages`` makes pages of it.
"""
