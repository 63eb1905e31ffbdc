from usrstore.tables import Dataset as Dataset
from usrstore.tables import create as create
from usrstore.tables import open as open  # noqa: A004  the word for it
from usrstore.tables import row_id as row_id
