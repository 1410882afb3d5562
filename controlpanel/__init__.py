"""The Django side: who may, what was asked, and the pages, REST and Docker API that ask it. Holds no privilege on the host."""
