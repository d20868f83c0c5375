"""What the Makefile does that takes more than a line. No part of the product; nothing in it imports from here."""
