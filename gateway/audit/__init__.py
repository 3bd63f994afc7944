"""The audit log: what the gateway decided and what people changed, in a form that shows whether anybody altered it.

``records`` (what stands in it), ``chain`` (hashes, Merkle roots, signatures) and ``verify`` are pure; ``files``, ``writer``
and ``log`` keep it on the disk, ``export`` sends it on, ``report`` sums it up.
"""
