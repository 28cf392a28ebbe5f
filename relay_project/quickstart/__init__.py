"""What `manage.py quickstart` is made of: a home folder, free ports, the processes, a demo project, the first mail."""
