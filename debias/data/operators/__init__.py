"""Operators that move a property from image to image: a new one is a function and a line here."""

from functools import partial

from debias.data.operators import colours, places, spectrum
from debias.data.operators.base import Apply, Operator

_ROWS, _COLUMNS = ("upper", "middle", "lower"), ("left", "middle", "right")


def _place(row: int, column: int) -> str:
    if (row, column) == (1, 1):
        return "the middle of the image"
    if row != 1 and column != 1:
        return f"the {_ROWS[row]} {_COLUMNS[column]} corner"
    return f"the {_ROWS[row]} edge" if row != 1 else f"the {_COLUMNS[column]} edge"


def _amplitudes(low: float, high: float) -> Apply:
    return partial(spectrum.amplitudes, low=low, high=high)


CONTROL = "nothing"
# Bands are shares of the highest frequency: 3 and 8 cycles over an image of 32 pixels.
OPERATORS: dict[str, Operator] = {
    operator.name: operator
    for operator in (
        Operator(CONTROL, "nothing at all, to compare with", "nothing", colours.nothing),
        Operator("brightness", "the mean over all channels", "the brightness", colours.brightness),
        Operator("contrast", "the spread about the mean", "the contrast", colours.contrast),
        Operator("channel_means", "the means of the colour channels", "the colours", colours.channel_means, True),
        Operator(
            "channel_stats", "the means and spreads of the colour channels", "the colours", colours.channel_stats, True
        ),
        Operator("histogram", "the values of every channel, by rank", "the colours", colours.histogram, True),
        Operator(
            "backdrop",
            "the colour that fills most of the image",
            "the colour of the background",
            colours.backdrop,
            colour=True,
        ),
        Operator(
            "amplitude_low",
            "the coarse part of the spectrum",
            "the coarse layout",
            _amplitudes(0, 0.1875),
            general=True,
        ),
        Operator(
            "amplitude_middle", "the middle of the spectrum", "the texture", _amplitudes(0.1875, 0.5), general=True
        ),
        Operator(
            "amplitude_high", "the fine part of the spectrum", "the fine texture", _amplitudes(0.5, 2), general=True
        ),
        Operator(
            "amplitude_all",
            "the amplitudes of the whole spectrum",
            "the whole spectrum",
            _amplitudes(0, 2),
            general=True,
        ),
        Operator("detail", "what is finer than a small blur", "the fine detail", spectrum.detail, general=True),
        Operator(
            "blur",
            "how the spectrum falls off",
            "the sharpness",
            spectrum.sharpness,
            thorough=spectrum.sharpness_and_detail,
        ),
        Operator(
            "noise",
            "what is finer and weaker than edges",
            "the noise",
            spectrum.noise,
            thorough=spectrum.noise_and_detail,
        ),
        Operator(
            "compression",
            "the frequencies of JPEG's blocks, by rank",
            "the compression of the files",
            spectrum.compression,
        ),
        Operator("border", "the outermost tenth", "the border", places.border, area=places.outer),
        Operator(
            "background",
            "what is around the middle",
            "the background",
            places.background,
            general=True,
            area=places.around,
        ),
        *(
            Operator(
                f"patch_{row}_{column}",
                f"the cell in row {row + 1}, column {column + 1} of a grid of 3 x 3",
                _place(row, column),
                partial(places.cell, row=row, column=column),
                area=partial(places.within_cell, row=row, column=column),
            )
            for row in range(places.CELLS)
            for column in range(places.CELLS)
        ),
        Operator("size", "how far edges spread from the middle", "the size of what is shown", places.size),
        Operator("aspect", "how steep changes across are beside those down", "the aspect", places.aspect),
        Operator("mix", "half of everything", "everything at half strength", colours.mix, general=True),
    )
}
__all__ = ["CONTROL", "OPERATORS", "Operator"]
