"""Python inside crash, and the extension that mends dumps of Xen hosts.

Data and imports flow one way::

    memory -> paging -> kernel -> p2m -> their users (host, command lines)

``host`` is Python inside a crash session; the rest runs anywhere.
"""

__version__ = "0.1.0"
