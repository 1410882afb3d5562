"""A container's files from outside of it: copying in and out, what it changed, export, commit, and the difference of any two.

Two ways to see files, and who goes which:

    merged view (view.py)    stat, archive out and in, export     a process of its own (porter.py) that is root of the tenant's user
                                                                   namespace alone, in the container's mount namespace or before an
                                                                   overlay that is mounted nowhere; it can do what the container could
    layers (stack.py)        changes, diff, commit                 reads the writable layer and the image's, folder by folder, by
                                                                   descriptors, with nodev and without following any link

So no name, link or archive of a tenant is ever followed by a process that is root of more than that tenant (CVE-2018-15664), and
nothing of an image is loaded (CVE-2019-14271): what the copying process needs was imported before it goes there.
"""
