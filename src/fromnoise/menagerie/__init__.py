"""The embedded data set: pandas, cats, dogs and flowers drawn from a seed, at any size from 8 to 512 px.

Every picture is a pure function of (seed, number): its factors are drawn by lot from known distributions, and the
picture is drawn from its factors. So what a perfect generator of these pictures would produce is known.
"""

from fromnoise.menagerie.collection import DISTRIBUTIONS, KIND, KINDS, Menagerie, paint
from fromnoise.menagerie.factors import Choice, Distribution, Uniform

__all__ = ["DISTRIBUTIONS", "KIND", "KINDS", "Choice", "Distribution", "Menagerie", "Uniform", "paint"]
