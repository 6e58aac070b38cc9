"""The method: measure (distances), decide (policy), cut (graph, surgery)."""
