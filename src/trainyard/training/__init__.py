"""The fit, the device, fine-tuning."""
