"""What can be claimed of data and models: pure functions of arrays and frames. No Keras, no MLflow, no disk."""
