"""The only package that imports the library ray: controller and agents as actors."""
