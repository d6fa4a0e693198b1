"""Trainyard: from real data to a proven Keras model in a registry, with one `dvc repro`."""
