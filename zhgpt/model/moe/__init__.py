"""Mixture of experts: three layers that compute the same function, their router, their dispatch and their names.

Adds to the shape legend of :mod:`zhgpt.model`:

    E  routed experts of a layer      L  experts that live on this rank      R  top-k, experts of a token
    M  rows sent to experts, T * R
"""
