"""What a reader would find wrong with a figure: words cut off, words on top of others."""

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox


def texts(figure: Figure) -> dict[Text, Bbox]:
    """Every visible text that is no number of an axis, with its place."""
    FigureCanvasAgg(figure).draw()
    ticks = {
        label
        for axis in figure.axes
        for side in (axis.xaxis, axis.yaxis)
        for label in (*side.get_ticklabels(minor=False), *side.get_ticklabels(minor=True))
    }
    found = {}
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_visible() and text.get_text().strip() and text not in ticks:
            found[text] = Text.get_window_extent(text)  # without the arrow of an annotation
    return found


def check_texts(figure: Figure) -> None:
    """No text leaves the figure or lies on another."""
    found = list(texts(figure).items())
    page = figure.bbox
    for index, (one, box) in enumerate(found):
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1
        assert inside, f"{one.get_text()!r} at {box} leaves {page}"
        for other, place in found[index + 1 :]:
            shared = Bbox.intersection(box, place)
            overlap = shared is not None and shared.width > 2 and shared.height > 2
            assert not overlap, f"{one.get_text()!r} and {other.get_text()!r}"
