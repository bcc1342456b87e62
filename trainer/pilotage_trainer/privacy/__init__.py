"""Personal data that only the words around it tell: a tagger, how it is trained, and the lists of words it knows.

words       lists of names, places, professions (model/words.txt.gz), and how they are gathered
features    a text as tokens, and what is known of each
tagger      spans by a conditional random field (model/english.crf)
reading     annotated texts in the formats that are around
learning    annotated texts to a model
finding     rules and tagger together, in files of texts
"""
