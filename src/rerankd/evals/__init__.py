"""How good a ranking is: judged data, measures, comparisons."""
