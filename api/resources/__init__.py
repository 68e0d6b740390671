"""Responders, by business."""
