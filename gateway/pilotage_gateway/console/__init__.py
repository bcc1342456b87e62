"""The console: where people answer what is proposed, watch process clusters, and look up who did what.

board.py: who waits, and who works what. entering.py: who is here. pages.py and looking.py: the pages. words.py and
curves.py: how things are said and drawn. Pages are made here and sent whole (Jinja, htmx); customers' HTML never is.
"""
