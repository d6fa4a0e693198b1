"""What the process imports from which those of models are forked: it computes nothing, so that a fork is sound."""

from trainyard.training import device

with device.quiet():
    import keras  # noqa: F401  # TensorFlow too, which takes seconds

    from trainyard.models import ctc, saved  # noqa: F401
    from trainyard.serving import worker  # noqa: F401
