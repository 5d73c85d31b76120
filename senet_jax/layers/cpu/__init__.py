"""What XLA on a CPU wants. Who reads the layers for what they compute can skip this folder.

None of it changes a result. It is used in seven places:

    layers/conv.py       formulations of a convolution and of its gradients, and oneDNN's
    layers/normalize.py  a backward pass that does not keep its maps too early (`zero_after`)
    layers/deferred.py   the same
    layers/pool.py       windows, of which the backward pass of a maximum is made
    layers/residual.py   the sum that ends a residual unit, kept instead of computed again
    training/process.py  oneDNN, taken in a process that trains
    runs/provenance.py   its version
"""
