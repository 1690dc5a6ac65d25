"""Pictures: folders of images with their times, and video."""
