"""Metadata by which viewers know a picture as a panorama (Google's GPano schema in XMP)."""

from __future__ import annotations

_TEMPLATE = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:GPano="http://ns.google.com/photos/1.0/panorama/"
   GPano:UsePanoramaViewer="True"
   GPano:ProjectionType="cylindrical"
   GPano:FullPanoWidthPixels="{width}"
   GPano:FullPanoHeightPixels="{full_height}"
   GPano:CroppedAreaImageWidthPixels="{width}"
   GPano:CroppedAreaImageHeightPixels="{height}"
   GPano:CroppedAreaLeftPixels="0"
   GPano:CroppedAreaTopPixels="{top}"/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


def gpano_xmp(width: int, height: int) -> bytes:
    """XMP of a ring: a cylinder of 360 degrees, `width` x `height` pixels, around the horizon.

    The full panorama is twice as wide as high, or as high as the picture where that is higher; what is above and below
    the picture is cropped away.
    """
    full_height = max(width // 2, height)
    filled = _TEMPLATE.format(width=width, height=height, full_height=full_height, top=(full_height - height) // 2)
    return filled.encode()
