"""Ports 587 and 465: mail of applications that speak SMTP. What the API reads from a body stands in envelope and header here;
behind accept() there is no difference.
"""
