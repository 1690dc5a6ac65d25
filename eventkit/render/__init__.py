"""Pictures for people: clips as contact sheets and films, every representation in colour.

Event pictures look as in Event-AHU's data sets (HARDVS, PokerEvent): red = ON, blue = OFF on
white, and where a pixel saw both, OFF is painted over ON.
"""

from eventkit.render.colours import event_picture as event_picture
from eventkit.render.colours import over as over
from eventkit.render.colours import paint as paint
from eventkit.render.files import save_gif as save_gif
from eventkit.render.files import save_mp4 as save_mp4
from eventkit.render.files import save_png as save_png
from eventkit.render.film import draw_film as draw_film
from eventkit.render.scene import Scene as Scene
from eventkit.render.sheet import clip_sheet as clip_sheet
from eventkit.render.sheet import draw_sheet as draw_sheet
