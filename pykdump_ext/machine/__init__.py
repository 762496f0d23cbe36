"""The bytes behind machine addresses: dump files, their formats and notes, page tables."""
