"""Replaying the log through the rules: was every fact allowed, and does every balance follow from the one before? Pure.

What is checked is stated here a second time, apart from the rules that decide: a defect there does not excuse itself.
"""
