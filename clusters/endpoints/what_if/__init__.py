"""What something else would cost and keep, on the hours that really were."""
