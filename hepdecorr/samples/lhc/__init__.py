"""What the samples of whole pp collisions at 13 TeV share: the generator, the detector, the files.

Pythia's particles go through the detector of the jets' samples; jets are anti-kT of R = 0.4.
"""
