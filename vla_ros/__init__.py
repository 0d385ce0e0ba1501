"""From camera images and words to smooth, limited robot motion on ROS 2."""

from pkgutil import extend_path

__version__ = "0.1.0"

# The interfaces built from msg/, srv/ and action/ are installed in another folder under the same name.
__path__ = extend_path(__path__, __name__)
