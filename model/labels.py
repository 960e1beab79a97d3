"""What the values of a label map mean to the network and to everything around it.

0 is background and c + 1 the object class c; torch is not needed to know this.
"""

IGNORE = 255  # no label: counts in no loss and in no score
